"""What one embedded mesh consists of: its processes, their files, ports and checks."""

import json
import ssl
import sys
from collections.abc import Mapping

from bend_envoy import GatewaySettings, Upstream, arguments, render, render_secrets
from bend_server.certificates import TRUST_DOMAIN, Authority, shared_secret, token
from bend_server.config import Settings
from bend_server.local import nats, ports
from bend_server.local.home import Home, replace
from bend_server.local.http_probe import ask
from bend_server.local.process import Check, ProcessSpec
from bend_server.tls import client_context

ADDRESS = "127.0.0.1"
USER = "/user/dev"
BUILTIN = "/component/builtin"
# Those that every mesh serves; `shell` is off until the operator enables it.
BUILTIN_COMPONENTS = ("http", "python", "grpc", "model", "sql", "kafka")
IDENTITIES = ("/engine", "/executor", "/gateway", "/nats", "/bench", BUILTIN, USER)
REGISTRY = "/registry"
STOP_SERVER_S = 10.0
STOP_OTHERS_S = 5.0


class Mesh:
    """One mesh: made ready on disk by `prepare`, then described by `processes`.

    Args:
        settings: of this installation; `home` is absolute.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self._inner: list[int] = []
        self.https_port = 0
        self.http_port: int | None = None

    def prepare(self) -> None:
        """Make folders, certificates and configurations, and choose ports.

        Raises:
            HomeFault, CertificateFault: the data folder cannot be used.
            PortTaken: a port that was asked for is in use.
        """
        self.home.prepare()
        self.authority = Authority(self.home.certs)
        for identity in IDENTITIES:
            self.authority.leaf(identity)
        if self.apart:
            self.authority.leaf(REGISTRY)
        token(self.home.certs)
        # By it an executor takes over what another one handed to a long-running task.
        shared_secret(self.home.certs, "resume.key")
        self._choose_ports()
        self._write_nats()
        self._write_gateway()

    @property
    def apart(self) -> bool:
        """Whether engine and registry are processes of their own: SQLite has one owner."""
        return not self.settings.sqlite

    @property
    def https_url(self) -> str:
        """Where the gateway's HTTPS door is."""
        return f"https://{ADDRESS}:{self.https_port}"

    @property
    def http_url(self) -> str:
        """Where its loopback door is; empty without one."""
        return f"http://{ADDRESS}:{self.http_port}" if self.http_port else ""

    def endpoints(self, pid: int) -> str:
        """Return the file by which clients of this machine find the mesh."""
        user = self.authority.leaf(USER)
        return json.dumps(
            {
                "version": 1,
                "urls": {"https": self.https_url, "http": self.http_url},
                "ca_file": str(self.authority.ca_file),
                "cert_file": str(user.certificate),
                "key_file": str(user.key),
                "pid": pid,
                # The engine's own door, for the benchmark's bench identity.
                "engine": f"{ADDRESS}:{self.engine_port}",
            }
        )

    @property
    def nats_port(self) -> int:
        """Port of nats-server."""
        return self._inner[0]

    @property
    def engine_port(self) -> int:
        """Port of the process that holds the engine."""
        return self._inner[1]

    @property
    def registry_port(self) -> int:
        """Port of the process that holds the registry: the engine's, unless they are apart."""
        return self._inner[-1] if self.apart else self.engine_port

    @property
    def registry_identity(self) -> str:
        """Path of the SPIFFE id of whoever serves the registry."""
        return REGISTRY if self.apart else "/engine"

    @property
    def executor_port(self) -> int:
        """Port of the executor."""
        return self._inner[2]

    @property
    def nats_url(self) -> str:
        """Where NATS is: ours, or the one of the settings."""
        return self.settings.nats_url or f"tls://{ADDRESS}:{self.nats_port}"

    def _choose_ports(self) -> None:
        asked = self.settings
        self.https_port = ports.choose(asked.https_port, ports.HTTPS_USUAL)
        if asked.http_port != 0:
            self.http_port = ports.choose(asked.http_port, ports.HTTP_USUAL)
        self._inner = ports.inner(4 if self.apart else 3)

    def _write_nats(self) -> None:
        leaf = self.authority.leaf("/nats")
        replace(
            self.home.nats_config,
            nats.render(
                nats.NatsSettings(
                    address=ADDRESS,
                    port=self.nats_port,
                    store=self.home.nats,
                    ca_file=self.authority.ca_file,
                    cert_file=leaf.certificate,
                    key_file=leaf.key,
                    trust_domain=TRUST_DOMAIN,
                )
            ),
        )

    def _write_gateway(self) -> None:
        gateway = self.gateway()
        gateway.admin_socket.unlink(missing_ok=True)
        replace(gateway.secrets_file, render_secrets(gateway))
        replace(self.home.envoy_config, render(gateway))

    def gateway(self) -> GatewaySettings:
        """Return the gateway's settings."""
        leaf = self.authority.leaf("/gateway")
        engine = self._upstream(self._engine_name, self.engine_port, "/engine")
        registry = self._upstream("registry", self.registry_port, REGISTRY)
        executor = self._upstream("executor", self.executor_port, "/executor")
        return GatewaySettings(
            https_address=ADDRESS,
            https_port=self.https_port,
            http_port=self.http_port,
            ca_file=self.authority.ca_file,
            cert_file=leaf.certificate,
            key_file=leaf.key,
            run_folder=self.home.run,
            admin_socket=self.home.admin_socket(),
            engine=engine,
            registry=registry if self.apart else engine,
            executor=executor,
        )

    def _upstream(self, name: str, port: int, identity: str) -> Upstream:
        return Upstream(name, ((ADDRESS, port),), self.authority.spiffe_id(identity))

    @property
    def _engine_name(self) -> str:
        return "engine" if self.apart else "server"

    def processes(self) -> list[ProcessSpec]:
        """Return the processes, in the order in which each needs those before it."""
        specs = [self._envoy(), self._engine()]
        if self.apart:
            specs.append(self._registry())
        specs += [self._executor(), self._components()]
        return specs if self.settings.nats_url else [self._nats(), *specs]

    def _nats(self) -> ProcessSpec:
        async def listens() -> bool:
            # nats-server opens its door when JetStream has read its store.
            return not ports.free(self.nats_port)

        return ProcessSpec(
            name="nats",
            command=[nats.program(), "-c", str(self.home.nats_config)],
            # One thread: fewer wake-ups and less CPU on a small machine.
            environment={"GOMAXPROCS": "1"},
            address=f"{ADDRESS}:{self.nats_port}",
            log=self.home.log("nats"),
            ready=listens,
            stop_s=STOP_OTHERS_S,
        )

    def _envoy(self) -> ProcessSpec:
        socket = self.home.admin_socket()

        async def live() -> bool:
            return (await ask("/ready", socket=socket)).status == 200

        return ProcessSpec(
            name="envoy",
            command=arguments(self.home.envoy_config),
            environment={},
            address=f"{ADDRESS}:{self.https_port}",
            log=self.home.log("envoy"),
            ready=live,
            stop_s=STOP_OTHERS_S,
        )

    def _engine(self) -> ProcessSpec:
        context = self.client_context()

        async def ready() -> bool:
            return (await ask("/readyz", port=self.https_port, tls=context)).status == 200

        # One at a time: the supervisor holds the home and starts an engine when the last has ended.
        # In one word: a secret may begin like an option.
        flags = [f"--replica={shared_secret(self.home.certs, 'replica.id')}"]
        return self._server(self._engine_name, self.engine_port, flags, ready)

    def _registry(self) -> ProcessSpec:
        ready = self._healthy("registry", self.registry_port)
        return self._server("registry", self.registry_port, [], ready)

    def _executor(self) -> ProcessSpec:
        flags = ["--registry", f"{ADDRESS}:{self.registry_port}"]
        flags += ["--registry-role", self.registry_identity.removeprefix("/")]
        if not self.settings.nats_url:
            # NATS is this mesh's own; the supervisor starts an executor when the last has ended.
            flags.append("--sole")
        ready = self._healthy("executor", self.executor_port)
        # The door that instances of pools dial.
        more = {"BEND_URL": self.https_url, "BEND_POOLS_FILE": str(self.settings.pools)}
        more["BEND_LISTENERS_FILE"] = str(self.settings.listeners)
        return self._server("executor", self.executor_port, flags, ready, more)

    def _healthy(self, cluster: str, port: int) -> Check:
        """Return a check whether a service listens and the gateway reaches it."""
        healthy = f"{cluster}::{ADDRESS}:{port}::health_flags::healthy".encode()
        socket = self.home.admin_socket()

        async def ready() -> bool:
            # The gateway's word alone may be about a process that has just died.
            return not ports.free(port) and healthy in (await ask("/clusters", socket=socket)).body

        return ready

    def _server(
        self,
        role: str,
        port: int,
        flags: list[str],
        ready: Check,
        more: Mapping[str, str] | None = None,
    ) -> ProcessSpec:
        return ProcessSpec(
            name=role,
            command=[*self._role(role, port), *flags],
            environment={**self._variables(), **(more or {})},
            address=f"{ADDRESS}:{port}",
            log=self.home.log(role),
            ready=ready,
            stop_s=STOP_SERVER_S,
        )

    def _components(self) -> ProcessSpec:
        leaf = self.authority.leaf(BUILTIN)
        context = self.client_context()

        async def served() -> bool:
            for name in BUILTIN_COMPONENTS:
                answer = await ask(
                    f"/v1/components/{name}/instances", port=self.https_port, tls=context
                )
                if answer.status != 200 or b'"instance_id"' not in answer.body:
                    return False
            return True

        return ProcessSpec(
            name="components",
            command=[sys.executable, "-m", "bend_executors"],
            environment={
                **self._variables(),
                "BEND_URL": self.https_url,
                "BEND_CA_FILE": str(self.authority.ca_file),
                "BEND_CERT_FILE": str(leaf.certificate),
                "BEND_KEY_FILE": str(leaf.key),
                "BEND_TOKEN": "",
            },
            address="",
            log=self.home.log("components"),
            ready=served,
            stop_s=STOP_OTHERS_S,
            # Earlier it would only compete for the processor, and be refused.
            after="executor",
        )

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS context of this machine's user."""
        return client_context(self.authority.ca_file, *self.authority.leaf(USER))

    def _role(self, role: str, port: int) -> list[str]:
        return [
            sys.executable,
            "-m",
            "bend_server.main",
            role,
            "--listen",
            f"{ADDRESS}:{port}",
            "--nats",
            self.nats_url,
        ]

    def _variables(self) -> dict[str, str]:
        """Return the settings that children get: ours, whether from a flag or a variable."""
        settings = self.settings
        return {
            "BEND_HOME": str(self.home.root),
            "BEND_DATABASE_URL": settings.database_url,
            "BEND_NATS_URL": settings.nats_url,
            "BEND_BLOB_URL": settings.blob_url,
            "BEND_MODEL_PATH": str(settings.model_path or ""),
            "BEND_LOG_LEVEL": settings.log_level,
            "BEND_HTTP_ALLOW": settings.http_allow,
            "BEND_BREAKING_CONTRACTS": settings.breaking_contracts,
            "BEND_COMPONENTS_FILE": str(settings.components_file or ""),
            "BEND_SECRETS_DIR": str(settings.secrets_dir or ""),
            "BEND_OTLP_ENDPOINT": settings.otlp_endpoint,
            # They are for clients; a server must not take them for its own certificate.
            "BEND_CERT_FILE": "",
            "BEND_KEY_FILE": "",
            "BEND_CA_FILE": "",
        }
