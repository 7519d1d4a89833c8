//! How a message leaves the machine.
