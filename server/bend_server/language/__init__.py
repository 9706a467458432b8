"""Document to checked definition to plan; CEL and templates. Pure, like the core."""
