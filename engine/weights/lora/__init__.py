"""LoRA files of every format: which parameters they change, by how much, and how a network takes the changes on."""
