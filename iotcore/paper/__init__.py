"""What is printed: label sheets and acceptance records."""
