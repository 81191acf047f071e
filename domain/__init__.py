"""The rules of Agora: pure values and entities, standard library only, no I/O, no clock."""
