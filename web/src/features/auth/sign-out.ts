import { authProblem } from "./errors";
import { supabaseAuth } from "./session";

/** End the session here, or all of the person's sessions. */
export async function signOut(scope: "local" | "global"): Promise<void> {
  const { error } = await supabaseAuth().signOut({ scope });
  if (error) throw authProblem(error);
}
