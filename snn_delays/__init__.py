"""Spiking neural networks with learnable synaptic delays.

The method of Hammouamri, Khalfaoui-Hassani and Masquelier, "Learning Delays in Spiking Neural
Networks using Dilated Convolutions with Learnable Spacings", ICLR 2024, arXiv 2306.17670.
"""
