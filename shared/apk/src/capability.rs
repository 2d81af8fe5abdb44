//! File capabilities: the text of a definition's `setcap` as the bytes of `security.capability`.

use crate::{Error, Result};

/// The extended attribute that holds a file's capabilities.
pub const CAPABILITY_ATTRIBUTE: &str = "security.capability";

/// `VFS_CAP_REVISION_2`, and the bit that makes the permitted set effective.
const REVISION: u32 = 0x0200_0000;
const EFFECTIVE: u32 = 1;

/// Names in the order of their numbers (linux/capability.h).
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The value of [`CAPABILITY_ATTRIBUTE`] for clauses such as `cap_net_bind_service,cap_net_raw+ep`,
/// separated by spaces; flags are `e` (effective), `i` (inheritable) and `p` (permitted).
///
/// The kernel has one effective bit for a whole file, so `e` holds for every capability.
pub fn file_capabilities(text: &str) -> Result<[u8; 20]> {
    let refuse = |problem| Error::Value { field: "setcap", value: text.escape_debug().to_string(), problem };
    let (mut permitted, mut inheritable, mut effective) = (0_u64, 0_u64, 0);
    for clause in text.split_whitespace() {
        let (names, flags) =
            clause.split_once(['+', '=']).ok_or_else(|| refuse("expected clauses such as `cap_net_raw+ep`"))?;
        let mut set = 0_u64;
        for name in names.split(',') {
            let bare = name.strip_prefix("cap_").unwrap_or_default();
            let number = NAMES.iter().position(|known| *known == bare);
            set |= 1 << number.ok_or_else(|| refuse("it names an unknown capability"))?;
        }
        for flag in flags.trim_start_matches(['+', '=']).chars() {
            match flag {
                'e' => effective = EFFECTIVE,
                'i' => inheritable |= set,
                'p' => permitted |= set,
                _ => return Err(refuse("its flags must be `e`, `i` or `p`")),
            }
        }
    }
    if permitted | inheritable == 0 {
        return Err(refuse("it permits nothing"));
    }
    let mut value = [0; 20];
    let words = [
        u64::from(REVISION | effective),
        permitted & 0xffff_ffff,
        inheritable & 0xffff_ffff,
        permitted >> 32,
        inheritable >> 32,
    ];
    for (slot, byte) in value.iter_mut().zip(words.iter().flat_map(|word| word.to_le_bytes().into_iter().take(4))) {
        *slot = byte;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_that_setcap_writes() {
        let bytes = |text| hex::encode(file_capabilities(text).unwrap());
        assert_eq!(bytes("cap_net_bind_service=+ep"), "0100000200040000000000000000000000000000");
        assert_eq!(bytes("cap_net_raw,cap_net_admin+p"), "0000000200300000000000000000000000000000");
        assert_eq!(bytes("cap_bpf+eip cap_chown+i"), "0100000200000000010000008000000080000000");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "cap_net_raw", "cap_everything+ep", "net_raw+p", "cap_net_raw+x", "cap_net_raw+e"] {
            assert!(file_capabilities(text).is_err(), "{text}");
        }
    }
}
