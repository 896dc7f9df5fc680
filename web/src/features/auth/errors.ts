import { isAuthError, isAuthRetryableFetchError } from "@supabase/supabase-js";
import { addressRemedy, asProblem, Problem } from "@/api/problem";

const TOLD: Record<string, [message: string, remedy: string]> = {
  invalid_credentials: ["The e-mail address or the password is not right.", "Check both and try again."],
  user_already_exists: ["There is an account with this e-mail address.", "Sign in instead."],
  email_exists: ["There is an account with this e-mail address.", "Sign in instead."],
  email_not_confirmed: [
    "The e-mail address is not confirmed yet.",
    "Open the link in the mail that was sent to it.",
  ],
  user_banned: ["This account is locked.", "Ask the operator of this Echo."],
  signup_disabled: ["New accounts are not taken here.", "Ask the operator of this Echo for one."],
  over_request_rate_limit: ["Too many tries.", "Wait a minute, then try again."],
  same_password: ["This is the password that you have already.", "Choose another one."],
  access_denied: ["Signing in was cancelled.", "Try again, or sign in with your password."],
  flow_state_not_found: ["This sign-in was begun in another browser or has been used.", "Sign in again."],
  flow_state_expired: ["Signing in took too long.", "Sign in again."],
  bad_oauth_state: ["This sign-in was begun in another browser or has been used.", "Sign in again."],
  bad_oauth_callback: ["Google's answer could not be used.", "Try again."],
  provider_email_needs_verification: [
    "Google has not verified your e-mail address.",
    "Verify it with Google, then try again.",
  ],
  unexpected_failure: ["Google could not be reached.", "Try again in a moment."],
  bad_code_verifier: ["This sign-in was begun in another browser.", "Sign in again."],
};

/** What an identity provider's way back tells in its address. */
export function redirectProblem(code: string, description: string | undefined): Problem {
  const [message, remedy] = TOLD[code] ?? [description ?? "Signing in did not succeed.", "Try again."];
  return new Problem({ code, message, remedy });
}

/** What supabase-js reports, as a sentence and a remedy. */
export function authProblem(error: unknown): Problem {
  if (!isAuthError(error)) return asProblem(error);
  if (isAuthRetryableFetchError(error)) {
    return new Problem({
      code: "auth_unreachable",
      message: "The sign-in service did not answer.",
      remedy: navigator.onLine
        ? (addressRemedy() ?? "Try again in a moment.")
        : "You are offline; try again when the connection is back.",
    });
  }
  const [message, remedy] = TOLD[error.code ?? ""] ?? [error.message, ""];
  return new Problem({ code: error.code ?? "auth", message, remedy, status: error.status ?? 0 });
}
