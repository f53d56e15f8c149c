"""What runs in the process of a student's notebook. It is copied there; nothing here is secret, or trusted."""
