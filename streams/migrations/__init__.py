"""The steps from one revision of the ledger to the next, one file each, in the order of their numbers.

A step is written once and left alone: it names tables and columns as they were, never what `streams.ledger_tables` says today. It runs
inside the transaction that `streams.ledger_schema` opens, on SQLite and on PostgreSQL. SQLite cannot change a column: use
`op.batch_alter_table`, which builds the table anew there and alters it elsewhere.
"""
