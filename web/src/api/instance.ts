import { api, body, type Instance } from "./client";
import { setHome } from "./problem";

let loaded: Instance | undefined;

/** Ask Echo once what it is: where people sign in, how large uploads may be. */
export async function loadInstance(): Promise<Instance> {
  loaded ??= await body(api.GET("/api/v1/instance"));
  setHome(loaded.publicUrl);
  return loaded;
}

/** What Echo said at the start. */
export function instance(): Instance {
  if (!loaded) throw new Error("the instance was not loaded yet");
  return loaded;
}
