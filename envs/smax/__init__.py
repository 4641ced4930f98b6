"""SMAX, battles like those of StarCraft's multi-agent challenge, from the package ``jaxmarl``, as task families."""
