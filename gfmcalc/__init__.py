"""Graph foundation models of atomistic modelling: calculator, hub, fine-tuning, command line."""
