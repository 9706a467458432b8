"""The built-in components, each a folder, made with the SDK that everybody uses."""
