/** How claude is started. The sandbox is the boundary: inside it claude may do everything, and nobody is asked. */
import type { Options } from "@anthropic-ai/claude-agent-sdk";
import { type AgentConfig, sessionFolder } from "./agent-config.ts";

/** The work that an unattended session needs; questions to the user are asked in plain text. */
const tools = [
  "Read",
  "Write",
  "Edit",
  "Bash",
  "Glob",
  "Grep",
  "Skill",
  "TodoWrite",
  "TaskCreate",
  "TaskGet",
  "TaskList",
  "TaskUpdate",
];

const instructionsNote = `You work in a modal-sb sandbox. It holds no credential: the Claude API is reached through a proxy, and a refusal by
the proxy or by the egress filter says what is allowed. Your working folder is /app; /data is kept between sandboxes.
The user sees your text as it streams. Ask questions in plain text and end your turn.`;

/**
 * The SDK options for a new conversation, or for the one called `resume`.
 * `environment` is the daemon's own; claude gets it with what makes one request of the user one turn.
 */
export function claudeOptions(
  config: AgentConfig,
  environment: Readonly<Record<string, string | undefined>>,
  resume: string | undefined,
): Options {
  return {
    cwd: config.cwd,
    env: claudeEnvironment(config, environment),
    settingSources: ["project"],
    // hooks of a project would run before any turn; web pages are judged by the egress filter
    settings: { disableAllHooks: true, skipWebFetchPreflight: true },
    strictMcpConfig: true,
    systemPrompt: { type: "preset", preset: "claude_code", append: instructionsNote },
    tools,
    disallowedTools: ["AskUserQuestion"],
    permissionMode: "bypassPermissions",
    allowDangerouslySkipPermissions: true,
    permissionPrompts: "none",
    includePartialMessages: true,
    maxTurns: config.maxTurns,
    title: `modal-sb ${config.sessionId}`,
    ...(config.model !== undefined && { model: config.model }),
    ...(config.claudePath !== undefined && { pathToClaudeCodeExecutable: config.claudePath }),
    ...(resume !== undefined && { resume }),
  };
}

function claudeEnvironment(config: AgentConfig, environment: Readonly<Record<string, string | undefined>>) {
  const { MODAL_SB_AGENT: _config, MODAL_SB_SANDBOX_TOKEN: token, ...rest } = environment;
  // the sandbox's id and a random token: worth nothing without the grant that the proxy holds for it
  const key = `${environment["MODAL_SANDBOX_ID"]}.${token}`;
  return {
    ANTHROPIC_API_KEY: key,
    ...rest,
    ...Object.fromEntries((config.keyVariables ?? []).map((name) => [name, key])),
    CLAUDE_CONFIG_DIR: `${sessionFolder(config)}/claude`,
    IS_SANDBOX: "1",
    // node's own clients and npm look at HTTPS_PROXY only when told to
    NODE_USE_ENV_PROXY: "1",
    // keeps a project's settings from redirecting the base URL
    CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST: "1",
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    // one message of the user is one turn: nothing goes on or begins by itself
    CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: "1",
    CLAUDE_CODE_DISABLE_CRON: "1",
    CLAUDE_CODE_DISABLE_AUTO_MEMORY: "1",
    CLAUDE_CODE_DISABLE_BUNDLED_SKILLS: "1",
    CLAUDE_CODE_DISABLE_WORKFLOWS: "1",
    CLAUDE_CODE_MAX_RETRIES: "4",
    CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK: "1",
    CLAUDE_AGENT_SDK_CLIENT_APP: "modal-sb",
  };
}
