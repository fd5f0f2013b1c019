"""The load generator behind `weft load`: arrivals, clients and figures. It knows a mesh by its contracts."""
