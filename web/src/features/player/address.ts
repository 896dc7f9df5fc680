/** The address without the token, which changes while the video stays the same. */
export function withoutToken(address: string): string {
  const url = new URL(address, document.baseURI);
  url.searchParams.delete("token");
  return url.href;
}
