"""Document to checked definition to plan; CEL and templates. Pure, like the core."""

from bend_server.language.compiler import compile_document, findings_of
from bend_server.language.contracts import ContractView
from bend_server.language.definition import ComponentUse, Definition

__all__ = ["ComponentUse", "ContractView", "Definition", "compile_document", "findings_of"]
