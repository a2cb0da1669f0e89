"""What every backend does with files: opening sources, publishing destinations atomically, sweeping leftovers."""
