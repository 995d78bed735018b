"""From a segmentation competition's download to a checked submission."""
