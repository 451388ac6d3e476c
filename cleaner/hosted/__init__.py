"""This package expires pushed content: snapshot, reference counts, rules, removal of images."""
