//! Quantities of the Kubernetes API, as far as whole numbers go.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A whole number in the form that the API server stores, so that what is read back is what was sent.
pub fn format_quantity(value: u64) -> Quantity {
    Quantity(tessera_vocabulary::format_quantity(value))
}

/// The whole number that a quantity stands for; `None` for fractions and for what is no quantity.
pub fn parse_quantity(quantity: &Quantity) -> Option<u64> {
    tessera_vocabulary::parse_quantity(&quantity.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_what_it_writes(value: u64) {
            prop_assert_eq!(parse_quantity(&format_quantity(value)), Some(value));
        }
    }
}
