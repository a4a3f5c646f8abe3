"""What users import and call: the functions, `Pool`, `Rules`, and what they return."""
