"""All state that exists once per client."""
