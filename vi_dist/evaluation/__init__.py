"""The common evaluation that makes configurations comparable."""
