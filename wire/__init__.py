"""Pure shapes shared by every other package: the core types, provider wires, SSE splitting, errors. No I/O."""
