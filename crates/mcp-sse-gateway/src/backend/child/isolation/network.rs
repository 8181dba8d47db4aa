//! Which sockets a sandboxed program may create. Landlock's rules cover plain TCP only, so all other ways out are
//! closed here, by a seccomp filter.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

#[cfg(target_arch = "x86_64")]
const SOCKET: i64 = 41;
#[cfg(not(target_arch = "x86_64"))]
const SOCKET: i64 = 198;
/// With `io_uring`, a program can create sockets without the `socket` system call.
const IO_URING_SETUP: i64 = 425;

/// On x86-64, each system call has a second number with this bit, for the x32 ABI (if the kernel supports it).
const X32: i64 = 0x4000_0000;

const EACCES: u32 = 13;

const UNIX: u64 = 1;
const INET: u64 = 2;
const INET6: u64 = 10;
/// For queries to the kernel, such as which addresses the machine has.
const NETLINK: u64 = 16;

/// The bits of the second argument that are the type; the rest are flags.
const KIND: u64 = 0xf;
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
/// All other types.
const OTHER_KINDS: [u64; 6] = [0, 3, 4, 5, 6, 10];

const ANY: u64 = 0;
const TCP: u64 = 6;
const UDP: u64 = 17;

/// Allows only sockets that stay on the machine and, if `may_connect`, those for TCP, and for UDP, which is needed to
/// resolve names.
pub(super) fn restrict(may_connect: bool) -> Result<(), Error> {
    apply_filter(&filter(may_connect)?)
}

/// Whether filters can be built for this machine's processor.
pub(super) fn is_known() -> bool {
    filter(true).is_ok()
}

fn filter(may_connect: bool) -> Result<BpfProgram, Error> {
    let is = |argument, value| SeccompCondition::new(argument, Dword, SeccompCmpOp::Eq, value);
    let is_not = |argument, value| SeccompCondition::new(argument, Dword, SeccompCmpOp::Ne, value);
    let kind = |value| SeccompCondition::new(1, Dword, SeccompCmpOp::MaskedEq(KIND), value);
    let mut refused = vec![SeccompRule::new(vec![
        is_not(0, UNIX)?,
        is_not(0, INET)?,
        is_not(0, INET6)?,
        is_not(0, NETLINK)?,
    ])?];
    for family in [INET, INET6] {
        if !may_connect {
            refused.push(SeccompRule::new(vec![is(0, family)?])?);
            continue;
        }
        // MPTCP and others, which the rules for TCP ports do not cover.
        for (usual, protocol) in [(STREAM, TCP), (DATAGRAM, UDP)] {
            let other = vec![is(0, family)?, kind(usual)?, is_not(2, ANY)?, is_not(2, protocol)?];
            refused.push(SeccompRule::new(other)?);
        }
        for other in OTHER_KINDS {
            refused.push(SeccompRule::new(vec![is(0, family)?, kind(other)?])?);
        }
    }
    let mut calls = BTreeMap::from([(SOCKET, refused), (IO_URING_SETUP, Vec::new())]);
    if cfg!(target_arch = "x86_64") {
        let again: Vec<_> = calls.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        calls.extend(again);
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, SeccompAction::Errno(EACCES), arch)?;
    Ok(filter.try_into()?)
}
