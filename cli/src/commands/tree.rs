//! `image tree`.

use engine::Engine;
use engine::images::TreeLayer;

use super::lists::short;
use crate::args::ImageTreeArgs;
use crate::error::Outcome;
use crate::output::{self, human};

/// `davit image tree`
pub(crate) fn tree(engine: &Engine, args: &ImageTreeArgs) -> Outcome {
    let tree = engine.images().tree(&args.image)?;
    output::line(&format!("Image ID: {}", short(&tree.id)));
    output::line(&format!("Tags:     [{}]", tree.tags.join(" ")));
    output::line(&format!("Size:     {}", human::short_size(tree.size)));
    if args.whatrequires {
        let top = tree.layers.last();
        output::line(&format!("Image Layers\n└──  ID: {}", top.map_or("<none>", |layer| short(&layer.id))));
        for child in engine.images().children(&args.image)? {
            let indent = "     ".repeat(child.depth + 1);
            let line =
                format!("{indent}└──  ID: {} Size: {}", short(&child.id), human::short_size(child.size));
            output::line(&(line + &tops(&child.top_of)));
        }
        return Ok(0);
    }
    output::line("Image Layers");
    for (number, layer) in tree.layers.iter().enumerate() {
        let branch = if number + 1 == tree.layers.len() { "└──" } else { "├──" };
        output::line(&format!("{branch} {}", described(layer)));
    }
    Ok(0)
}

fn described(layer: &TreeLayer) -> String {
    let mut text = format!("ID: {} Size: {}", short(&layer.id), human::short_size(layer.size));
    if layer.shadows > 0 {
        text += &format!(" Shadows: {}", human::short_size(layer.shadows));
    }
    if layer.duplicates > 0 {
        text += &format!(" Duplicates: {}", human::short_size(layer.duplicates));
    }
    text + &tops(&layer.top_of)
}

fn tops(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" Top Layer of: [{}]", names.join(" ")) }
}
