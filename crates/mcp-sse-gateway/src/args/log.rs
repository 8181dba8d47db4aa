//! Options of the log.

use clap::ValueEnum;

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Log (to stderr)")]
pub(crate) struct Log {
    /// Format of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// What is logged: a level, or a filter such as `info,mcp_sse=debug`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log_level: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Plain text
    Text,
    /// One JSON object per line
    Json,
}
