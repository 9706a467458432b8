"""A small mesh inside a test's process: real rooms, twins in memory for SQL, NATS and blobs.

`bend.testing` in the SDK is what people use; it loads this when the server is installed.
"""

from bend_server.testing.mesh import TestMesh
from bend_server.testing.thread import MeshThread

__all__ = ["MeshThread", "TestMesh"]
