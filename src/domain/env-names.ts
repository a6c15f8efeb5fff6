// Names of environment variables: which are well-formed, and which must not be set from a secret's name, since
// whoever may write settings would run the processes that read them.

/** 253: the longest key that a Kubernetes Secret has. */
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,252}$/;

/** In any case of letters, since some system or shell folds them. */
const TAKES_OVER = new RegExp(
  `^(${[
    // What a shell, or what it starts, does and looks for.
    "PATH|FPATH|CDPATH|MANPATH|IFS|ENV|ZDOTDIR|HOME|SHELL|SHELLOPTS|BASHOPTS|BASH|BASH_.*|POSIXLY_CORRECT|INPUTRC",
    "PS[0-4]|PROMPT_COMMAND|GLOBIGNORE|HISTFILE|FCEDIT|EDITOR|VISUAL|PAGER|MANPAGER|BROWSER",
    "LESSOPEN|LESSCLOSE|TMPDIR|TMOUT",
    // What a shell keeps itself: a value would be refused or lost.
    "_|UID|EUID|PPID|GROUPS|PWD|OLDPWD|SHLVL|RANDOM|SRANDOM|SECONDS|EPOCHSECONDS|EPOCHREALTIME|LINENO|HISTCMD",
    "OPT(IND|ARG|ERR)|DIRSTACK|FUNCNAME|FUNCNEST|PIPESTATUS|REPLY|MAPFILE|COPROC|COMP_.*|COMPREPLY|TIMEFORMAT",
    // Loaders and libraries.
    "LD_.*|DYLD_.*|_RLD.*|LIBPATH|SHLIB_PATH|GCONV_PATH|LOCPATH|NLSPATH|MALLOC_.*|GLIBC_TUNABLES|TERMINFO(_DIRS)?",
    "OPENSSL_(CONF|ENGINES|MODULES)|RES_OPTIONS|HOSTALIASES|RESOLV_HOST_CONF",
    // Interpreters and runtimes.
    "NODE_(OPTIONS|PATH|EXTRA_CA_CERTS|TLS_REJECT_UNAUTHORIZED|REPL_.*)|NPM_CONFIG_.*|PYTHON.*",
    "PERL5(LIB|OPT|DB)|PERLLIB|RUBY(OPT|LIB)|GEM_(HOME|PATH)|BUNDLE_GEMFILE|PHPRC|PHP_INI_SCAN_DIR|LUA_(INIT|C?PATH).*",
    "CLASSPATH|_?JAVA_(TOOL_)?OPTIONS|JDK_JAVA_OPTIONS|(JAVA|MAVEN|GRADLE|SBT|CATALINA)_OPTS",
    "DOTNET_STARTUP_HOOKS|COR(ECLR)?_(ENABLE_)?PROFIL.*|R_(PROFILE|ENVIRON)(_USER)?|R_LIBS.*|GUILE_LOAD_.*|ERL_.*FLAGS",
    // Tools that run or load what these name, or read from there what to run.
    "(GNU)?MAKEFLAGS|RUSTC_(WORKSPACE_)?WRAPPER|CARGO_(HOME|.*_(RUNNER|LINKER|RUSTC.*))|GOFLAGS",
    "(AWS|BAT|DELTA|GH|GIT|SYSTEMD)_PAGER|(GH|GIT(_SEQUENCE)?|KUBE|SUDO|SYSTEMD)_EDITOR|(GIT|SSH|SUDO)_ASKPASS",
    "GIT_(SSH.*|EXEC_PATH|CONFIG.*|EXTERNAL_DIFF|TEMPLATE_DIR|PROXY_COMMAND|DIR|WORK_TREE)|RSYNC_RSH|CVS_RSH",
    "AWS_(CONFIG|SHARED_CREDENTIALS)_FILE|CLOUDSDK_(CONFIG|PYTHON.*)|KUBECONFIG|DOCKER_CONFIG|TF_CLI_.*|PIP_CONFIG_FILE",
    "XDG_CONFIG_(HOME|DIRS)|CURL_HOME|WGETRC|PSQLRC|VIMINIT|EXINIT|CUDA_INJECTION.*_PATH|NCCL_.*PLUGIN",
  ].join("|")})$`,
  "i",
);

/** Why a variable must not have this name; null when it may. */
export function nameProblem(name: string): string | null {
  if (!NAME.test(name)) return "the name is no environment variable's";
  return TAKES_OVER.test(name) ? `${name} would take over a process, or belongs to the shell` : null;
}
