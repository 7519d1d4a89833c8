//! A fault in one service's driving is said, and outlived.

use crate::{exit::Exit, screen::Trouble};
use lastgood_domain::{failure::REPORT, terms::ServiceName};
use std::panic::{self, AssertUnwindSafe};

/// Makes trouble of a panic: a fault of ours in one service's driving must not leave it undriven for good. Nothing of it is
/// kept; what counts is in the log.
pub(super) fn outlived<T>(service: &ServiceName, driving: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    panic::catch_unwind(AssertUnwindSafe(driving)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&'static str>().copied());
        let said = said.unwrap_or("no message");
        let what = format!("driving {service} failed and starts again: {said}");
        Err(Trouble::say(Exit::Failed, "internal", what, REPORT))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_while_driving_is_trouble_to_be_said_and_not_the_end_of_it() {
        let web = ServiceName::new("web").unwrap();
        let trouble = outlived::<()>(&web, || panic!("nobody {}", "thought of it")).unwrap_err();
        assert_eq!(trouble.failure.code, "internal");
        assert!(trouble.failure.to_string().contains("driving web failed and starts again: nobody thought of it"));
        assert!(outlived::<()>(&web, || panic!("plainly")).unwrap_err().failure.to_string().contains("plainly"));
        assert_eq!(outlived(&web, || Ok(7)).unwrap(), 7);
    }
}
