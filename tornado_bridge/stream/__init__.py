"""What was let out, and which connections get it."""
