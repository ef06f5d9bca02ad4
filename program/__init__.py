"""The program of a network: from layers to the text that is compiled, and its arrays."""
