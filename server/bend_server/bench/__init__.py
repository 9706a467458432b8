"""`bend bench`: the fixed jobs J1 to J4 on a fresh mesh; every output is checked."""
