/**
 * Names and shapes that more than one module needs: constants and interfaces, no side effects.
 *
 * What the plugin does with them is in `index.ts`; the routes are those of `jupyter_ccapi/server`.
 */

/** The plugin's id, as JupyterLab lists it. */
export const PLUGIN_ID = 'jupyter-ccapi:plugin';

/**
 * The page option that says where the routes are mounted below the server's base URL.
 *
 * It is `CCApiApp.url_prefix`; absent or empty, they are at its root.
 */
export const URL_PREFIX_OPTION = 'ccapiUrlPrefix';

/** The commands that the plugin registers. */
export namespace CommandIDs {
  /** Say which version of the server extension answers, in a dialog. */
  export const about = 'ccapi:about';
}

/** What the plugin reads of the answer to `GET /health?deep=1`. */
export interface IHealth {
  /** `ok`, `degraded` (nobody is logged in) or `unavailable` (no Claude Code that runs). */
  status: string;
  /** The version of the Python package, such as `0.1.0`. */
  version: string;
  /** What is wrong and what to do about it, where something is. */
  problem?: string;
}
