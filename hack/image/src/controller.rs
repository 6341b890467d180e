//! What the controller is shipped in: the program, which is static and needs nothing else, its licence and its bill of
//! materials.

use std::path::Path;

use anyhow::Result;

use crate::agent::{version, without_symbols};
use crate::file::read;
use crate::{Bill, File, Image, Shared, bill_of_materials};

/// The image's name, without a tag.
pub const CONTROLLER: &str = "tessera.dev/controller";

const BILL: &str = "/usr/share/sbom/tessera-controller.cdx.json";
const LICENCE: &str = "/usr/share/doc/tessera-controller/LICENSE";

/// Nobody: the program writes no file and reads none that is not everybody's.
const USER: &str = "65532:65532";

/// The image of the controller, and its bill of materials. `program` is `tessera-controller`, linked statically.
pub fn controller(workspace: &Path, program: &Path) -> Result<(Image, Vec<u8>)> {
    let bill = bill_of_materials(&Bill {
        workspace,
        image: (CONTROLLER, version()),
        packages: &["tessera-controller"],
        shared: &Shared::none(),
    })?;
    let files = vec![
        File::program("/tessera-controller", without_symbols(program)?),
        File::text(LICENCE, read(&workspace.join("LICENSE"))?),
        File::text(BILL, bill.clone()),
    ];
    let image = Image {
        name: format!("{CONTROLLER}:{}", version()),
        user: Some(USER.to_owned()),
        entrypoint: vec!["/tessera-controller".to_owned()],
        command: Vec::new(),
        environment: vec!["PATH=/".to_owned()],
        labels: vec![
            ("org.opencontainers.image.title", "tessera-controller".to_owned()),
            ("org.opencontainers.image.version", version().to_owned()),
            ("org.opencontainers.image.licenses", "Apache-2.0".to_owned()),
        ],
        layers: vec![files],
    };
    Ok((image, bill))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_has_one_program_and_no_root() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let (image, bill) = controller(&workspace, &std::env::current_exe().unwrap()).unwrap();
        let paths: Vec<_> = image.layers.iter().flatten().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["/tessera-controller", LICENCE, BILL]);
        assert!(image.user.is_some() && image.layers[0][2].content == bill);
        let again = controller(&workspace, &std::env::current_exe().unwrap()).unwrap().0;
        assert_eq!(image.archive().unwrap().digest, again.archive().unwrap().digest);
    }
}
