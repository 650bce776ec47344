//! Writes its second argument into the file that its first one names, or prints that file: enough for a build step
//! and a container on an image that holds nothing else.

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.as_slice() {
        [_, path, text] => std::fs::write(path, format!("{text}\n")),
        [_, path] => std::io::copy(&mut std::fs::File::open(path)?, &mut std::io::stdout()).map(|_| ()),
        _ => Err(std::io::Error::other("usage: hello FILE [TEXT]")),
    }
}
