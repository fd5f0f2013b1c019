"""Weft's services. They share `services.kit` and the generated contracts in `weft`, and never import each other."""
