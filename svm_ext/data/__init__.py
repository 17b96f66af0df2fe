"""Videos to learn from: generated scenes, folders of one's own, clips, augmentation, loading."""
