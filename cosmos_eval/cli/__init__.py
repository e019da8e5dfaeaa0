"""The command line: one file a command, no logic beyond parsing and printing. Nothing heavy is imported here."""
