//! Data a release may migrate: snapshot, clone, measure, restore.
