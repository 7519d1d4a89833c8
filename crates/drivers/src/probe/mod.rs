//! Scripted checks of real behaviour.
