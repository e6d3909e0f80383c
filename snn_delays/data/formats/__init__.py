"""How recordings lie on the disk, as Tonic datasets: files of spikes, folders of spoken words."""
