"""Printed from docs/openapi.json by scripts/clients.sh."""
