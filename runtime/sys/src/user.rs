//! The caller's ids on the host.

/// Effective user id.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Real user id.
pub fn real_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Effective group id.
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Tells whether the caller has root's id in its user namespace.
pub fn is_root() -> bool {
    effective_uid() == 0
}

/// Sets all user and group ids and the supplementary groups of the calling thread, groups first. `None` leaves the
/// supplementary groups as they are.
pub fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> std::io::Result<()> {
    use rustix::process::{Gid, Uid};
    if let Some(groups) = groups {
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        rustix::thread::set_thread_groups(&groups)?;
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Runs `body` with other IDs for the files that the calling thread makes, and with its capabilities.
pub fn with_file_ids<T>(uid: u32, gid: u32, body: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    let before = crate::caps::current()?;
    let set = |uid: u32, gid: u32| {
        // rustix and nix lack the two on this level; they tell the former ID and never fail.
        // SAFETY: both calls take an integer and change the calling thread's credentials alone.
        unsafe {
            libc::setfsgid(gid);
            libc::setfsuid(uid);
        }
        // leaving ID 0 takes the rights over files away
        crate::caps::set(before.effective, before.permitted, before.inheritable)
    };
    set(uid, gid)?;
    let result = body();
    set(effective_uid(), effective_gid())?;
    result
}
