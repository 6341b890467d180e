use k8s_openapi::api::resource::v1::ResourceSlice;

/// How many devices the one pool of these slices has, once it is whole: the scheduler looks at the newest generation,
/// and takes nothing from it before all of its slices are there.
pub(crate) fn devices_of_pool(slices: &[ResourceSlice]) -> Option<usize> {
    let newest = slices.iter().map(|slice| slice.spec.pool.generation).max()?;
    let slices: Vec<_> = slices.iter().filter(|slice| slice.spec.pool.generation == newest).collect();
    let wanted = slices.first()?.spec.pool.resource_slice_count;
    let devices = slices.iter().filter_map(|slice| slice.spec.devices.as_ref()).map(Vec::len).sum();
    (usize::try_from(wanted) == Ok(slices.len()) && devices > 0).then_some(devices)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::resource::v1::{Device, ResourcePool, ResourceSliceSpec};

    use super::*;

    #[test]
    fn a_pool_is_whole_when_all_slices_of_its_newest_generation_are_there() {
        let slice = |(generation, count, devices): &(i64, i64, usize)| {
            let pool = ResourcePool { generation: *generation, resource_slice_count: *count, ..Default::default() };
            let devices = Some(vec![Device::default(); *devices]);
            ResourceSlice { spec: ResourceSliceSpec { pool, devices, ..Default::default() }, ..Default::default() }
        };
        for (slices, expected) in [
            (&[][..], None),
            (&[(1, 1, 8)], Some(8)),
            (&[(1, 1, 0)], None),
            (&[(1, 2, 64)], None),
            (&[(1, 2, 64), (1, 2, 16)], Some(80)),
            // Counters have slices of their own.
            (&[(1, 3, 0), (1, 3, 64), (1, 3, 16)], Some(80)),
            (&[(1, 1, 64), (2, 2, 64)], None),
            (&[(1, 1, 8), (2, 1, 64)], Some(64)),
        ] {
            let made: Vec<_> = slices.iter().map(slice).collect();
            assert_eq!(devices_of_pool(&made), expected, "{slices:?}");
        }
    }
}
