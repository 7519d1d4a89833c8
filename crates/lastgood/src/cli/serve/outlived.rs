//! A fault in one service's driving is said, and outlived.

use crate::{exit::Exit, screen::Trouble};
use std::panic::{self, AssertUnwindSafe};

/// Makes trouble of a panic: a fault of ours in one service's driving must not leave it undriven for good. Nothing of it is
/// kept; what counts is in the log.
pub(super) fn outlived<T>(driving: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    panic::catch_unwind(AssertUnwindSafe(driving)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&'static str>().copied());
        let what = format!("the driver ended by a fault and begins anew: {}", said.unwrap_or("it said nothing"));
        Err(Trouble::say(Exit::Failed, "internal", what, "report this"))
    })
}

#[cfg(test)]
mod tests {
    use super::outlived;

    #[test]
    fn a_fault_while_driving_is_trouble_to_be_said_and_not_the_end_of_it() {
        let trouble = outlived::<()>(|| panic!("nobody {}", "thought of it")).unwrap_err();
        assert_eq!(trouble.failure.code, "internal");
        assert!(trouble.failure.to_string().contains("nobody thought of it"));
        assert!(outlived::<()>(|| panic!("plainly")).unwrap_err().failure.to_string().contains("plainly"));
        assert_eq!(outlived(|| Ok(7)).unwrap(), 7);
    }
}
