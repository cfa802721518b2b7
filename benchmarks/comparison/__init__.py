"""The comparison of methods: what is trained and measured, cell by cell, and the report of it."""
