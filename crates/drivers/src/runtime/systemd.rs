//! Instances as systemd units.
