/**
 * The JupyterLab plugin: one command, which says what the server extension answers.
 *
 * Constants and interfaces are in `tokens.ts`.
 */

import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Dialog, showDialog } from '@jupyterlab/apputils';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { CommandIDs, IHealth, PLUGIN_ID, URL_PREFIX_OPTION } from './tokens';

/**
 * Ask the server extension how it is.
 *
 * Rejects with a sentence for the user: what was asked, what it answered, and what to do.
 */
async function fetchHealth(settings: ServerConnection.ISettings): Promise<IHealth> {
  const prefix = PageConfig.getOption(URL_PREFIX_OPTION);
  const url = URLExt.join(settings.baseUrl, prefix, 'health');
  const response = await ServerConnection.makeRequest(`${url}?deep=1`, {}, settings);
  // 503 is an answer too: the extension is there, Claude Code is not ready.
  if (!response.ok && response.status !== 503) {
    throw new Error(
      `${url} answered ${response.status} ${response.statusText}. ` +
        'Run `jupyter server extension list` to see whether jupyter_ccapi is enabled.'
    );
  }
  return response.json();
}

/** The sentences that the dialog shows. */
async function describe(settings: ServerConnection.ISettings): Promise<string> {
  try {
    const { status, version, problem } = await fetchHealth(settings);
    return `The server extension jupyter_ccapi ${version} answers: ${status}. ${problem ?? ''}`;
  } catch (error) {
    return `The server extension jupyter_ccapi does not answer. ${(error as Error).message}`;
  }
}

const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN_ID,
  description: 'Says which version of the jupyter_ccapi server extension answers.',
  autoStart: true,
  activate: (app: JupyterFrontEnd): void => {
    app.commands.addCommand(CommandIDs.about, {
      label: 'About Claude Code for Jupyter',
      caption: 'Show which version of the server extension answers, and whether it is ready',
      execute: async () => {
        const body = await describe(app.serviceManager.serverSettings);
        await showDialog({
          title: 'Claude Code for Jupyter',
          body,
          buttons: [Dialog.okButton()]
        });
      }
    });
  }
};

export default plugin;
