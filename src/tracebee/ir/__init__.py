"""The SSA intermediate representation, its passes, and code generation."""
