"""Scripts that make committed files from what lies beside the repository."""
