import { currentUploads, isActive } from "@/features/uploads/manager";
import { authProblem } from "./errors";
import { supabaseAuth } from "./session";

/** End the session here, or all of the person's sessions; false when they would rather let their uploads end first. */
export async function signOut(scope: "local" | "global"): Promise<boolean> {
  const going = currentUploads().some(isActive);
  if (going && !window.confirm("Uploads are going on. Sign out and stop them?")) return false;
  const { error } = await supabaseAuth().signOut({ scope });
  if (error) throw authProblem(error);
  return true;
}
