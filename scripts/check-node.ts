/** The checks and tests mean nothing on another Node than the one that runs modal-sb. */
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 24 || (major === 24 && minor < 12)) {
  console.error(
    `Node ${process.versions.node} is too old: 24.12 or later is needed. npm ci installs it; npm run uses it`,
  );
  process.exit(1);
}
